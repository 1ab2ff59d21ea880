"""The native API below ``/cache``: its operations, their document, and what carries them out."""

"""The origin over HTTP: connections and their pool, and Glance's rules about image data."""

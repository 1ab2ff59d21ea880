"""The management site as tools made for Glance's own cache know it."""

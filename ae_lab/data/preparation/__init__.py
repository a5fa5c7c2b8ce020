"""Image files, decoded once into a cache, and how to get them."""

"""Pictures: read from files, as pixels, recoloured, and with a map drawn over them."""

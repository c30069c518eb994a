"""The pictures that Olhar draws itself: characters, parts, pets and slices."""

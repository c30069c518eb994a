"""Training a GAN on a few pictures, and the quality of what it draws."""

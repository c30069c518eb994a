"""Generators for few images: FastGAN and DCGAN, their training, looking at their samples, and judging them."""

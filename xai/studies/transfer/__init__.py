"""Fine-tuning a network on a folder of pictures, and reviewing its errors."""

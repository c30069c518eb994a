"""The page GAN augmentation."""

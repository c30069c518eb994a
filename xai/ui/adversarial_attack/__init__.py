"""The page Adversarial attack."""

"""What a person asks for, composed of explanations, metrics, attacks, generators and training."""

"""What loading a model will take, decided before it is done, and the loaded model."""

"""Training straight from a bucket ends with the weights that training from the folder ends with."""

"""The maths of diffusion: tensors in, tensors out. Knows no network and no file."""

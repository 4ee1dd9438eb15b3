"""vidiff: train and use your own video diffusion model, from a folder of videos to generated, extended and interpolated
video."""

__version__ = "0.1.0"

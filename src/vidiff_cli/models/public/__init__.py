"""Public pretrained models in the diffusers format. The one room that imports diffusers, transformers and peft, lazily.

What is taken from the libraries: network and codec classes, tokenizers, text encoders, reading of weights. Schedules,
samplers, guidance and plans are vidiff's own.
"""

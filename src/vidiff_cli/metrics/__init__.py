"""Metrics of generated videos, against true ones and by themselves: numbers from uint8 frames.

`fidelity` (PSNR, SSIM), `baselines`, `temporal`, `drift` and `distance` use no network; the networks of the
distances are in `extractors` and `i3d`.
"""

"""How far made videos are from true ones, and how good they are by themselves: numbers from uint8 frames.

`fidelity` (PSNR, SSIM), `baselines`, `temporal` and `distance` know no network; the networks that distances are
measured on stand apart in `extractors` and `i3d`.
"""

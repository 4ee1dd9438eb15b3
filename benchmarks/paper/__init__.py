"""Claims of Video Diffusion Models (Ho et al. 2022), tried again in small; docs/results.md has the outcome."""

"""CLIP-DINOiser: CLIP's own patch features, pooled by two small convolutions (Wysoczańska et al., ECCV 2024).

MaskCLIP's patch features are noisy. Which patches belong together and which are background can be read from features
of the same CLIP, by heads that were taught by DINO's correlations and by FOUND. One pass of one network, no crops.
"""

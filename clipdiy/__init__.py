"""CLIP-DIY: training-free open-vocabulary segmentation.

Images and tensors only: this package knows no HTTP server, no Label Studio and no environment variables.
"""

"""Folders of videos and images to a dataset folder: scan, captions, clips, filters, splits."""

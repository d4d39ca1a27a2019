"""Where images come from: sources, splits, augmentation, audit, preview."""

"""What training needs besides the model: faces in memory, augmentation, previews."""

"""What a network learns from images alone: each a term of two views of an image, with a projector that never ships."""

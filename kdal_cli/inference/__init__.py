"""Looking at many images: predictions, and what a sampler may read of them."""

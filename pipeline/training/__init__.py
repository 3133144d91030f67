"""The parts of training besides the model: dataset, sampler, augmentation, optimizer steps, monitoring."""

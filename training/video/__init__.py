"""The video of a training row: the processor's tensors, the clip encoded once, the mask of the answer."""

"""What the model sees of a training row: the processor's tensors, and each clip through the vision tower once.

`video_inputs.open_rows` is the way in.
"""

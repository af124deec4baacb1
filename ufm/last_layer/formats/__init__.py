"""Files of arrays: .npz, .npy shards, .safetensors, and .pt where PyTorch is installed.

`read_files` recognises a file by its content, and lists its arrays without reading them.
"""

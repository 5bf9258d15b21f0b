"""GGUF and safetensors to a folder that ONNX Runtime GenAI runs, without torch."""

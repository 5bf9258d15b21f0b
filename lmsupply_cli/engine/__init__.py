"""The engine: what a model is (`base`), one real implementation (`genai`), one scripted (`fake`)."""

"""A loaded model that answers: prompts, the prompt cache, one answer or many."""

"""Everything that makes video with a model: loading, windows of a completion, results, resume."""

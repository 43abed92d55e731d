"""How a model is asked: checkpoints, engines and servers."""

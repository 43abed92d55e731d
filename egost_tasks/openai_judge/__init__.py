"""The judge that asks a model over HTTP: see `client.OpenAIJudge`."""

"""How a model is asked: names of models, checkpoints, engines, and the journal of what they answered.

An engine implements `engine.Engine`; `adapter` makes each one a model of lmms-eval, and `run_plan` plans a run of it.
"""

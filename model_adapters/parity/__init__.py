"""Parity: do two engines give the same answers to the same questions, token by token?"""

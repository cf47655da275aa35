"""Abrupt abilities: a step in what a model can do, or a threshold on something smooth?"""

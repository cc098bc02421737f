"""Which learning rates are best?"""

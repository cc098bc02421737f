"""Where does the optimizer end up?"""

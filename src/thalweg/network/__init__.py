"""What does the network cost and see?"""

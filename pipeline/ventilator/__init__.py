"""The ventilator: reads tasks, sends each worker what it asks for, and again what was lost.

Pure: told what was said and what time it is, it answers with what to say.
"""

"""The exercises: lesson_NN_topic.py holds some of those of lesson NN."""

"""The advantages of a step's completions: over their groups, scaled over the step, or by a teacher's judgement."""

from rl.shadowing import claim

claim()

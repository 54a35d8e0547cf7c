from rl.shadowing import load_own_packages

load_own_packages()

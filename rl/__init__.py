from rl.own_packages import claim

claim()

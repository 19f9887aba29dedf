"""How a run goes: the runner, the frame of a method, where it stands."""

"""gymnasium: AsyncVectorEnv over shared memory and over pipes, by each start method."""

# requires: gymnasium numpy
import gymnasium
from gymnasium.vector import AsyncVectorEnv


def make(n):
    def env():
        return gymnasium.make("CartPole-v1", max_episode_steps=5 + n)

    return env


def main():
    for shared, context in ((True, "fork"), (False, "fork"), (True, "spawn")):
        envs = AsyncVectorEnv([make(n) for n in range(2)], shared_memory=shared, context=context)
        seen, _ = envs.reset(seed=3)
        print(seen.shape, seen.round(6).tolist())
        for action in ((0, 1), (1, 1), (0, 0)):
            seen, rewards, terminated, truncated, _ = envs.step(action)
            print(seen.round(6).tolist(), rewards.tolist(), terminated.tolist(), truncated.tolist())
        print([str(spec.id) for spec in envs.get_attr("spec")])
        envs.close()


if __name__ == "__main__":
    main()

"""dask.distributed: a cluster of worker processes under nannies."""

# requires: distributed
from distributed import Client, LocalCluster


def double(x):
    return 2 * x


if __name__ == "__main__":
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        print(client.gather(client.map(double, range(10))))
        print(client.submit(sum, [1, 2, 3]).result(60))

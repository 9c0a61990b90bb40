"""luigi: tasks in processes, by workers=2."""

# requires: luigi
# one host: results are files of this machine
import logging
import os
import tempfile

import luigi


class Part(luigi.Task):
    folder = luigi.Parameter()
    n = luigi.IntParameter()

    def output(self):
        return luigi.LocalTarget(os.path.join(self.folder, "part-%d" % self.n))

    def run(self):
        self.set_progress_percentage(50)
        with self.output().open("w") as out:
            out.write(str(self.n * self.n))


class Total(luigi.Task):
    folder = luigi.Parameter()

    def requires(self):
        return [Part(folder=self.folder, n=n) for n in range(4)]

    def output(self):
        return luigi.LocalTarget(os.path.join(self.folder, "total"))

    def run(self):
        with self.output().open("w") as out:
            out.write(str(sum(int(part.open().read()) for part in self.input())))


if __name__ == "__main__":
    logging.getLogger("luigi-interface").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        result = luigi.build(
            [Total(folder=folder)],
            workers=2,
            local_scheduler=True,
            no_lock=True,
            log_level="CRITICAL",
            detailed_summary=True,
        )
        print(result.scheduling_succeeded, result.status.name, open(os.path.join(folder, "total")).read())

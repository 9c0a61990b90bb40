"""ansible-core: a play on two hosts of this machine, by forks that answer through a queue that ansible derives from SimpleQueue."""

# requires: ansible
import contextlib
import io
import os
import sys
import tempfile

PLAY = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.set_fact:
        squared: "{{ (n | int) ** 2 }}"
    - ansible.builtin.assert:
        that: (squared | int) == (n | int) * (n | int)
    - ansible.builtin.debug:
        msg: "{{ inventory_hostname }} {{ squared }}"
"""
HOSTS = "one n=1\ntwo n=2\nthree n=3\n"

if __name__ == "__main__":
    os.environ["LC_ALL"] = os.environ["LANG"] = "C.UTF-8"
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(
            ANSIBLE_HOME=folder,
            ANSIBLE_LOCAL_TEMP=folder,
            ANSIBLE_NOCOLOR="1",
            ANSIBLE_DEPRECATION_WARNINGS="0",
            ANSIBLE_PYTHON_INTERPRETER=sys.executable,
            ANSIBLE_LOCALHOST_WARNING="0",
        )
        for name, text in (("play.yml", PLAY), ("hosts", HOSTS)):
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        from ansible.cli.playbook import PlaybookCLI

        cli = PlaybookCLI(
            [
                "ansible-playbook",
                "-i",
                os.path.join(folder, "hosts"),
                "-f",
                "2",
                os.path.join(folder, "play.yml"),
            ]
        )
        cli.parse()
        with contextlib.redirect_stdout(io.StringIO()) as said:
            status = cli.run()
        print("\n".join(sorted(said.getvalue().splitlines())), status)

# As "systemctl enable" would, without its seconds for the SysV script of the same name.
enable() {
  local unit
  for unit; do ln -sf "/lib/systemd/system/$unit" "/etc/systemd/system/multi-user.target.wants/$unit"; done
}

chown -R ansible:ansible /home/ansible
chmod 0700 /home/ansible/.ssh
chmod 0600 /home/ansible/.ssh/authorized_keys
systemctl reset-failed ssh.service
systemctl restart ssh.service
# The lab's authority stands for the public ones that every server trusts.
update-ca-certificates >/dev/null 2>&1 &
authorities=$!

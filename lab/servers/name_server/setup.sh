chgrp bind /etc/bind/private-keys.conf
chown -R bind:bind /var/lib/bind
named-checkconf -z /etc/bind/named.conf >/dev/null
enable named.service
systemctl start named.service

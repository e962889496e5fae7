# What a reset of the lab goes back to.
cp /var/lib/bind/{{ domain }}.zone /etc/bind/zone-as-made
